"""OpenVINO on the CPU: bfloat16 and int8 on x86, from the same models and plans as ONNX Runtime."""
