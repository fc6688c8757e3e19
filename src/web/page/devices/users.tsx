/** The users of an export, and who may write it; on a narrow screen as cards. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { formatBytes, formatSeconds } from '../../../base/format.js';
import { useMedia } from '../base/media.js';
import { Dialog } from '../parts/dialog.js';
import type { Task } from '../parts/task.js';
import type { ClientInfo, ExportInfo } from '../state/contract.js';
import { exportPath, post } from '../state/request.js';
import { refresh } from '../state/server.js';

interface UsersProps {
  readonly info: ExportInfo;
  readonly task: Task;
}

/** A client, or the next one that connects. */
type Taker = ClientInfo | 'next';

const columns: readonly { readonly title: string; readonly text: (client: ClientInfo) => string }[] = [
  { title: 'Connected', text: ({ connected }) => formatSeconds(connected) },
  { title: 'Requests', text: ({ requests }) => requests.toLocaleString('en') },
  { title: 'Read', text: ({ bytesRead }) => formatBytes(bytesRead) },
  { title: 'Written', text: ({ bytesWritten }) => formatBytes(bytesWritten) },
  {
    title: 'Last write',
    text: ({ lastWrite }) => (lastWrite === undefined ? 'never' : `${formatSeconds(lastWrite)} ago`),
  },
];

export function Users({ info, task }: UsersProps): JSX.Element {
  const [taker, setTaker] = useState<Taker | undefined>(undefined);
  const narrow = useMedia('(max-width: 760px)');
  if (info.clients.length === 0) return <p class="muted">No computer uses it now.</p>;
  const move = (to: Taker): void => {
    setTaker(undefined);
    void task.run('Waiting until the writes of the present writer are durable…', async () => {
      await post(exportPath(info, 'lease'), to === 'next' ? {} : { to: to.id });
      await refresh();
      return to === 'next' ? 'The next client that connects may write.' : `${nameOf(to)} may write now.`;
    });
  };
  const leased = info.writer !== undefined && !info.readOnly;
  const rightOf = (client: ClientInfo): JSX.Element | undefined =>
    leased ? <Right client={client} info={info} busy={task.busy !== undefined} onTake={setTaker} /> : undefined;
  return (
    <>
      {narrow ? <Cards info={info} rightOf={rightOf} /> : <Table info={info} leased={leased} rightOf={rightOf} />}
      {taker !== undefined && (
        <Dialog
          title={taker === 'next' ? 'Take the right to write away?' : `Give ${nameOf(taker)} the right to write?`}
          act={taker === 'next' ? 'Take it away' : 'Give it'}
          onCancel={() => setTaker(undefined)}
          onAct={() => move(taker)}
        >
          <p>
            The server waits until the writes of the present writer are complete and durable. After that, its writes
            fail, and {taker === 'next' ? 'the next client that connects' : nameOf(taker)} may write.
          </p>
        </Dialog>
      )}
    </>
  );
}

interface ListProps {
  readonly info: ExportInfo;
  readonly rightOf: (client: ClientInfo) => JSX.Element | undefined;
}

function Table({ info, leased, rightOf }: ListProps & { readonly leased: boolean }): JSX.Element {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`Users of ${info.name}`}>
      <table class="users">
        <thead>
          <tr>
            <th scope="col">User</th>
            {columns.map(({ title }) => (
              <th scope="col" class="number" key={title}>
                {title}
              </th>
            ))}
            {leased && <th scope="col">Right to write</th>}
          </tr>
        </thead>
        <tbody>
          {info.clients.map((client) => (
            <tr key={client.id}>
              <td>{nameOf(client)}</td>
              {columns.map(({ title, text }) => (
                <td class="number" key={title}>
                  {text(client)}
                </td>
              ))}
              {leased && <td>{rightOf(client)}</td>}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Cards({ info, rightOf }: ListProps): JSX.Element {
  return (
    <ul class="cards" aria-label={`Users of ${info.name}`}>
      {info.clients.map((client) => (
        <li key={client.id}>
          <h3>{nameOf(client)}</h3>
          <dl>
            {columns.map(({ title, text }) => (
              <div key={title}>
                <dt>{title}</dt>
                <dd>{text(client)}</dd>
              </div>
            ))}
          </dl>
          {rightOf(client)}
        </li>
      ))}
    </ul>
  );
}

interface RightProps {
  readonly client: ClientInfo;
  readonly info: ExportInfo;
  readonly busy: boolean;
  readonly onTake: (to: Taker) => void;
}

function Right({ client, info, busy, onTake }: RightProps): JSX.Element {
  const name = nameOf(client);
  if (client.id !== info.writer) {
    return (
      <button
        class="quiet"
        disabled={busy}
        aria-label={`Give ${name} the right to write`}
        onClick={() => onTake(client)}
      >
        Give the right to write
      </button>
    );
  }
  return (
    <span class="row">
      <span class="tag good">may write</span>
      <button
        class="quiet"
        disabled={busy}
        aria-label={`Take the right to write from ${name}`}
        onClick={() => onTake('next')}
      >
        Take away
      </button>
    </span>
  );
}

function nameOf({ label, tlsName, peer }: ClientInfo): string {
  const names = [label, tlsName].filter((one) => one !== undefined);
  return names.length === 0 ? peer : `${names.join(', ')} (${peer})`;
}
