/** How gradients are written. All forms compute the same; which one an engine wants depends on what it has kernels for. */
export interface GradientForms {
  /**
   * How the gradient of a MaxPool finds its way back: by the places that the MaxPool itself gives out, or, where a runtime does not give
   * them, by comparing each number of a window with the largest.
   */
  pooling?: 'places' | 'comparison';
}
