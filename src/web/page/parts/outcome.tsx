/** Says that a request runs, or how the last one ended. Screen readers read it when it changes. */
import type { JSX } from 'preact';
import type { Task } from './task.js';

export function Outcome({ task }: { readonly task: Task }): JSX.Element {
  const { busy, said } = task;
  return (
    <div role="status" class="outcome">
      {busy !== undefined && <p class="muted">{busy}</p>}
      {busy === undefined && said && <p class={said.good ? 'good-text' : 'bad-text'}>{said.text}</p>}
    </div>
  );
}
