/** A button whose act loses data or is hard to undo, so it asks first. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { Dialog } from './dialog.js';

interface ConfirmedProps {
  readonly act: string;
  readonly title: string;
  readonly text: string;
  readonly busy: boolean;
  readonly onAct: () => void;
}

export function Confirmed({ act, title, text, busy, onAct }: ConfirmedProps): JSX.Element {
  const [asks, setAsks] = useState(false);
  return (
    <>
      <button disabled={busy} onClick={() => setAsks(true)}>
        {act}
      </button>
      {asks && (
        <Dialog
          title={title}
          act={act}
          danger
          onCancel={() => setAsks(false)}
          onAct={() => {
            setAsks(false);
            onAct();
          }}
        >
          <p>{text}</p>
        </Dialog>
      )}
    </>
  );
}
