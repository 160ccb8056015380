"""ONNX Runtime on the CPU: runs any model, and is what every candidate is compared with."""
