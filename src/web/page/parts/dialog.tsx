/** A question before an act that others feel. */
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';

interface DialogProps {
  readonly title: string;
  readonly children: ComponentChildren;
  /** The text of the button that acts. */
  readonly act: string;
  readonly danger?: boolean;
  readonly onAct: () => void;
  readonly onCancel: () => void;
}

export function Dialog({ title, children, act, danger = false, onAct, onCancel }: DialogProps): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    element.current?.showModal();
  }, []);
  return (
    <dialog ref={element} aria-labelledby={id} onCancel={onCancel}>
      <div>
        <h2 id={id}>{title}</h2>
        {children}
        <div class="row end">
          <button onClick={onCancel}>Cancel</button>
          <button class={danger ? 'danger' : 'primary'} onClick={onAct}>
            {act}
          </button>
        </div>
      </div>
    </dialog>
  );
}
