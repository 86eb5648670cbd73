"""Weight quantization: int8 within budgets of accuracy and speed, fp16, and 4-bit weights.

    calibration   calibration audio, and the inputs of each matrix product on it
    rounding      rounding of a weight to int8, exact where 16-bit sums saturate
    plan          layers with quantized weights, int8 and 4 bits
    layers        quantization of every layer, and the noise that it adds
    lowering      quantized products in a traced graph
    half          fp16 products, and the range of every value in them
    accuracy      accuracy against PyTorch, and speed over float32
    search        layers returned to float until the budgets hold

"Quantizer" alone always means the codebooks.
"""
