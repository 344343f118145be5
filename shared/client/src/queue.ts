// An async iterator that others fill: bounded, and it says when it is full and when there is room again.

export class Queue<T> implements AsyncIterableIterator<T> {
  #items: T[] = [];
  #waiting: [(result: IteratorResult<T>) => void, (error: unknown) => void][] = [];
  #done = false;
  #error: unknown;

  #limit: number;
  #drained: (queue: Queue<T>, left: boolean) => void;

  /** `drained` is called when a queue is half empty again, and when nobody reads it any more (`left`). */
  constructor(limit: number, drained: (queue: Queue<T>, left: boolean) => void) {
    this.#limit = limit;
    this.#drained = drained;
  }

  get full(): boolean {
    return this.#items.length >= this.#limit;
  }

  /** It is more than half full. */
  get behind(): boolean {
    return this.#items.length * 2 > this.#limit;
  }

  push(item: T): void {
    if (this.#done) return;
    const reader = this.#waiting.shift();
    if (reader) reader[0]({ done: false, value: item });
    else this.#items.push(item);
  }

  /** Nothing more comes. What waits is still read, unless it is to be thrown away; then the reader gets `error`, if any. */
  end(error?: unknown, discard = false): void {
    if (this.#done) return;
    this.#done = true;
    if (discard) this.#items = [];
    this.#error = error;
    for (const reader of this.#waiting.splice(0)) this.next().then(...reader);
  }

  async next(): Promise<IteratorResult<T>> {
    if (this.#items.length) {
      const value = this.#items.shift() as T;
      if (!this.behind) this.#drained(this, false);
      return { done: false, value };
    }
    if (this.#done) {
      const error = this.#error;
      this.#error = undefined;
      if (error) throw error;
      return { done: true, value: undefined };
    }
    return new Promise((...reader) => this.#waiting.push(reader));
  }

  /** The reader leaves: `break` in a `for await`. */
  async return(): Promise<IteratorResult<T>> {
    this.end(undefined, true);
    this.#drained(this, true);
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
