"""Weights in fewer bits: int8 within budgets of accuracy and speed, fp16, and 4-bit weights.

    calibration   audio through the twins: what each matrix product is given
    rounding      a weight to int8, safe for processors whose 16-bit sums saturate
    layers        every product made int8, with the noise that this adds
    lowering      products of a traced graph rewritten in int8
    accuracy      a graph against PyTorch, and against float32 for speed
    search        layers taken back to float until the budgets hold

"Quantizer" alone always means the codebooks.
"""
