/**
 * How a graph is written where there is more than one way. All forms compute the same; which one an engine wants depends on what it has
 * kernels for, and which of them are fast.
 */
export interface GradientForms {
  /**
   * How the gradient of a MaxPool finds its way back: by the places that the MaxPool itself gives out, or, where a runtime does not give
   * them, by comparing each number of a window with the largest.
   */
  pooling?: 'places' | 'comparison';
  /**
   * Convolutions by ONNX Runtime's kernels over channels in blocks of so many, see blocked-convolution.ts. How many is the processor's
   * business.
   */
  blocks?: number;
  /** Convolutions over images of a few pixels as products of matrices, see matrix-convolution.ts. */
  matrices?: boolean;
}
