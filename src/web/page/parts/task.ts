/** A request that the user has started: whether it runs, and the words of its outcome. */
import { useState } from 'preact/hooks';

export interface Task {
  /** Words for the request that runs now; undefined if none does. */
  readonly busy: string | undefined;
  /** The outcome of the last one. */
  readonly said: { readonly good: boolean; readonly text: string } | undefined;
  /** Runs `act`, which returns the words for its success. Resolves when it is over. */
  run(doing: string, act: () => Promise<string>): Promise<void>;
  clear(): void;
}

export function useTask(): Task {
  const [busy, setBusy] = useState<string | undefined>(undefined);
  const [said, setSaid] = useState<Task['said']>(undefined);
  return {
    busy,
    said,
    clear: () => setSaid(undefined),
    run: async (doing, act) => {
      setBusy(doing);
      setSaid(undefined);
      try {
        setSaid({ good: true, text: await act() });
      } catch (error) {
        setSaid({ good: false, text: error instanceof Error ? error.message : String(error) });
      }
      setBusy(undefined);
    },
  };
}
