/**
 * What matrix products and attention read and give: float32 values, or values rounded to one of the two 16-bit types.
 * Products add up in float32 whichever it is, and so does everything in between: statistics, residuals, losses,
 * gradients of parameters, the optimizer. bf16 has float32's range and 8 bits of significand; f16 has 11 bits and ends at
 * 65504 and 6e-8, which is why training in it scales its gradients.
 */
export const PRECISIONS = ["f32", "bf16", "f16"] as const;
export type Precision = (typeof PRECISIONS)[number];
