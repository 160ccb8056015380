"""Recovery without labels: the pruned float model is taught by the original on the calibration inputs.

Everything here needs PyTorch (extra `recover`), which no other part of lwc imports. Only `lwc.compiler.recover.api`
is imported from outside; it loads the rest when it is used.
"""
