/** One server-sent event. */
export interface ServerEvent {
  name: string;
  data: string;
  id: string;
}

/** Characters of one event; a server that sends more is not one of ours. */
const EVENT_LENGTH_MAX = 64 * 1024;

/**
 * Reads `text/event-stream` as WHATWG HTML describes it (9.2.6): lines that end in CR, LF or both, fields, comments,
 * and an event at each empty line. Comments give nothing, but the bytes they came in do show that the link holds.
 */
export class EventStreamParser {
  readonly #decoder = new TextDecoder();
  #rest = '';
  #data: string[] = [];
  #name = '';
  #id = '';
  #length = 0;

  /** The events that end within some bytes. Throws RangeError where an event or a line has no end. */
  push(bytes: Uint8Array): ServerEvent[] {
    const events: ServerEvent[] = [];
    let text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    // The LF of a CR LF may be still to come.
    const isSplit = text.endsWith('\r');
    if (isSplit) text = text.slice(0, -1);
    const lines = text.split(/\r\n|\r|\n/);
    this.#rest = (lines.pop() ?? '') + (isSplit ? '\r' : '');
    for (const line of lines) {
      this.#length += line.length;
      this.#check(this.#length);
      if (line !== '') this.#field(line);
      else this.#end(events);
    }
    this.#check(this.#length + this.#rest.length);
    return events;
  }

  #check(length: number): void {
    if (length > EVENT_LENGTH_MAX)
      throw new RangeError(`a server-sent event of more than ${EVENT_LENGTH_MAX} characters`);
  }

  #field(line: string): void {
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#name = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }

  #end(events: ServerEvent[]): void {
    if (this.#data.length > 0)
      events.push({ name: this.#name || 'message', data: this.#data.join('\n'), id: this.#id });
    [this.#data, this.#name, this.#length] = [[], '', 0];
  }
}
