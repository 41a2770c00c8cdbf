/** A release that comes with an app, so that its first start needs no network: the files of `model export --format bundle`. */
export interface Bundle {
  /** A SignedManifest. */
  release: Uint8Array;
  graph: Uint8Array;
  weights: Uint8Array;
}
