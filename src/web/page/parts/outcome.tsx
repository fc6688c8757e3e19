/** Says that a request runs, or how the last one ended. Screen readers read it when it changes. */
import type { JSX } from 'preact';
import type { Task } from './task.js';

interface OutcomeProps {
  readonly task: Task;
  /** True if a success no longer holds: it is not shown then. */
  readonly over?: boolean;
}

export function Outcome({ task, over = false }: OutcomeProps): JSX.Element {
  const { busy } = task;
  const said = over && task.said?.good ? undefined : task.said;
  return (
    <div role="status" class="outcome">
      {busy !== undefined && <p class="muted">{busy}</p>}
      {busy === undefined && said && <p class={said.good ? 'good-text' : 'bad-text'}>{said.text}</p>}
    </div>
  );
}
