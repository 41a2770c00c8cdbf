/** Draws a block of lines again and again in the same place of a terminal. */
export class LiveView {
  readonly #stream: NodeJS.WriteStream;
  #height = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  draw(lines: readonly string[]): void {
    const width = this.#stream.columns || 80;
    const up = this.#height === 0 ? '' : `\x1b[${this.#height}A`;
    // A line that wraps would take two rows and the next drawing would miss its place.
    const text = lines.map((line) => `\x1b[2K${[...line].slice(0, width - 1).join('')}\n`).join('');
    this.#stream.write(`${up}\r\x1b[0J${text}`);
    this.#height = lines.length;
  }

  /** Leaves what was drawn last in its place. */
  end(): void {
    this.#height = 0;
  }
}
