/** A value that components watch. */
import { useEffect, useState } from 'preact/hooks';

export class Store<T> {
  #value: T;
  readonly #watchers = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const watcher of [...this.#watchers]) watcher();
  }

  update(change: (value: T) => T): void {
    this.set(change(this.#value));
  }

  /** Calls `watcher` after each change. Returns the end of it. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }
}

/** The value of a store; the component renders again when it changes. */
export function useStore<T>(store: Store<T>): T {
  return useStoreAtMost(store, 0);
}

/**
 * The value of a store that changes often; the component renders again at most every `everyMs` ms.
 */
export function useStoreAtMost<T>(store: Store<T>, everyMs: number): T {
  const [value, show] = useState(store.value);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const showNow = (): void => {
      timer = undefined;
      show(() => store.value);
    };
    const stop = store.watch(() => {
      if (everyMs === 0) showNow();
      else timer ??= setTimeout(showNow, everyMs);
    });
    // It may have changed between the rendering and this effect.
    showNow();
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [store, everyMs]);
  return value;
}
