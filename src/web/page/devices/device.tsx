/** One export: its facts, curves and users, and what may be done with it. */
import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { formatBytes, formatMs } from '../../../base/format.js';
import { useStore } from '../base/store.js';
import { Dialog } from '../parts/dialog.js';
import { Outcome } from '../parts/outcome.js';
import { Plot } from '../parts/plot.js';
import { useTask, type Task } from '../parts/task.js';
import type { ExportInfo } from '../state/contract.js';
import { exportPath, post, ServerError } from '../state/request.js';
import { history, refresh, spanSeconds } from '../state/server.js';
import { Users } from './users.js';

interface DeviceProps {
  readonly info: ExportInfo;
  /** True if the user may eject and move the right to write. */
  readonly control: boolean;
}

export function Device({ info, control }: DeviceProps): JSX.Element {
  const task = useTask();
  const id = `device-${info.name}`;
  const title = info.name === '' ? 'Default export' : info.name;
  return (
    <section class="panel" aria-labelledby={id}>
      <div class="panel-head">
        <h2 id={id} class="device-name">
          {title}
        </h2>
        <div class="row">
          {info.medium?.present !== false && <span class="tag number">{formatBytes(info.size)}</span>}
          <span class="tag">{accessOf(info)}</span>
          {info.writer !== undefined && <span class="tag">one writer at a time</span>}
          {info.medium && <Medium info={info} />}
          {info.away !== undefined && <span class="tag bad">away since {timeBefore(info.away)}</span>}
          {info.errors > 0 && (
            <span class="tag bad number">{info.errors === 1 ? '1 error' : `${info.errors} errors`}</span>
          )}
          {control && info.medium?.present && <Eject info={info} task={task} />}
        </div>
      </div>
      {info.description !== '' && <p class="muted">{info.description}</p>}
      <Curves name={info.name} />
      {control && <Users info={info} task={task} />}
      <Outcome task={task} />
    </section>
  );
}

/** A disk that others may write can still be read-only for the token of this page. */
function accessOf({ readOnly, mayWrite }: ExportInfo): string {
  if (readOnly) return 'read-only';
  return mayWrite ? 'writable' : 'read-only for you';
}

/** The time of day, `seconds` ago. */
function timeBefore(seconds: number): string {
  return new Date(Date.now() - seconds * 1000).toLocaleTimeString();
}

function Medium({ info: { medium } }: { readonly info: ExportInfo }): JSX.Element {
  if (!medium!.present) return <span class="tag">no medium</span>;
  return <span class="tag good">{medium!.held ? 'medium in use' : 'medium present'}</span>;
}

function Eject({ info, task }: { readonly info: ExportInfo; readonly task: Task }): JSX.Element {
  const [asks, setAsks] = useState(false);
  const eject = (force: boolean): void => {
    void task.run('Ejecting the medium…', async () => {
      try {
        await post(exportPath(info, 'eject'), { force });
      } catch (error) {
        if (!(error instanceof ServerError && error.status === 409 && !force)) throw error;
        setAsks(true);
        return 'A client holds the medium.';
      }
      await refresh();
      return 'The medium is ejected.';
    });
  };
  return (
    <>
      <button disabled={task.busy !== undefined} onClick={() => eject(false)}>
        Eject
      </button>
      {asks && (
        <Dialog
          title="Eject the medium although a client holds it?"
          act="Eject by force"
          danger
          onCancel={() => setAsks(false)}
          onAct={() => {
            setAsks(false);
            eject(true);
          }}
        >
          <p>The client has locked the medium because it uses it. Data that it has not written yet will be lost.</p>
        </Dialog>
      )}
    </>
  );
}

function latency(ms: number): string {
  return ms === 0 ? '0 ms' : formatMs(ms);
}

function rate(bytes: number): string {
  return `${formatBytes(bytes)}/s`;
}

function Curves({ name }: { readonly name: string }): JSX.Element {
  const points = useStore(history).get(name) ?? [];
  const times = points.map(({ at }) => at);
  return (
    <div class="plots">
      <Plot
        title="Throughput"
        times={times}
        curves={[
          { name: 'read', values: points.map(({ read }) => read) },
          { name: 'written', values: points.map(({ written }) => written) },
        ]}
        format={rate}
        least={4096}
        base={2}
        span={spanSeconds}
      />
      <Plot
        title="Latency of the disk"
        times={times}
        curves={[
          { name: 'p50', values: points.map(({ latency }) => latency?.p50 ?? null) },
          { name: 'p99', values: points.map(({ latency }) => latency?.p99 ?? null) },
        ]}
        format={latency}
        least={0.1}
        base={10}
        span={spanSeconds}
      />
    </div>
  );
}
