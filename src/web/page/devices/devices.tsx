/** The section "Devices": the exports of the server. */
import type { JSX } from 'preact';
import { formatBytes, formatSeconds } from '../../../base/format.js';
import { useStore } from '../base/store.js';
import { server } from '../state/server.js';
import { Device } from './device.js';

export function Devices(): JSX.Element {
  const info = useStore(server)!;
  return (
    <div class="section">
      <header>
        <h1>Devices</h1>
        <p class="lead">The disks that this server offers, and the computers that use them now.</p>
      </header>
      {info.exports.length === 0 && <p class="notice">This server offers no disk that this page may see.</p>}
      {info.exports.map((one) => (
        <Device info={one} control={info.rights.control} key={one.name} />
      ))}
      <ServerFacts />
    </div>
  );
}

function ServerFacts(): JSX.Element {
  const { name, uptime, listening, connections, memory } = useStore(server)!;
  return (
    <section class="panel" aria-labelledby="server-facts">
      <h2 id="server-facts">This server</h2>
      <dl class="facts">
        <div>
          <dt>Name</dt>
          <dd>{name}</dd>
        </div>
        <div>
          <dt>Runs for</dt>
          <dd>{formatSeconds(uptime)}</dd>
        </div>
        <div>
          <dt>Connections</dt>
          <dd>
            {connections.open} open, {connections.accepted} since the start
            {connections.refused > 0 && `, ${connections.refused} refused`}
          </dd>
        </div>
        <div>
          <dt>Memory</dt>
          <dd>{formatBytes(memory)}</dd>
        </div>
        <div class="wide">
          <dt>Listens at</dt>
          <dd>
            {listening.map((at) => (
              <div class="code" key={at}>
                {at}
              </div>
            ))}
          </dd>
        </div>
      </dl>
    </section>
  );
}
