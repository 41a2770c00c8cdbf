/** The bytes or the model cannot be used; the message says why and what mends it. */
export class OnnxError extends Error {
  override readonly name: string = 'OnnxError';
}

/** The model is sound but its gradient cannot be written; names the operator and the node in the way. */
export class NotTrainableError extends OnnxError {
  override readonly name: string = 'NotTrainableError';
  readonly node: string;
  readonly operator: string;

  constructor(message: string, where: { node: string; operator: string }) {
    super(message);
    this.node = where.node;
    this.operator = where.operator;
  }
}
