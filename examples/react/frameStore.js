/**
 * An external store for `useSyncExternalStore`, independent of React. It notifies its listeners at
 * most once per frame.
 */
export class FrameStore {
  #state;
  #shown;
  #listeners = new Set();
  #frame = 0;

  /** @param {object} state the first one */
  constructor(state) {
    this.#state = this.#shown = state;
  }

  // Stable functions, and a snapshot that changes only with the state.
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  getSnapshot = () => this.#shown;

  get state() {
    return this.#state;
  }

  /** Change the state; the listeners hear of it in the next frame. @param {object} changes */
  set(changes) {
    this.#state = { ...this.#state, ...changes };
    this.#frame ||= requestAnimationFrame(() => this.show());
  }

  /** Notify the listeners now. */
  show() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#shown === this.#state) return;
    this.#shown = this.#state;
    for (const listener of [...this.#listeners]) listener();
  }
}
