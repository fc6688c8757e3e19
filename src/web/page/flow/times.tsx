/** Where the time of a command goes: a bar in true proportions, and the figures. */
import type { JSX } from 'preact';
import { formatMs } from '../../../base/format.js';
import { partNames, type Command } from './command.js';
import { partTitles } from './way.js';

export function Times({ command }: { readonly command: Command }): JSX.Element {
  const parts = partNames.flatMap((name) => {
    const ms = command.parts[name];
    return ms === undefined ? [] : [{ name, ms: Math.max(0, ms) }];
  });
  const sum = parts.reduce((total, { ms }) => total + ms, 0);
  return (
    <div class="times">
      <svg class="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        {parts.map(({ name, ms }, index) => {
          const before = parts.slice(0, index).reduce((total, part) => total + part.ms, 0);
          const scale = sum === 0 ? 0 : 100 / sum;
          return <rect class={`share ${name}`} x={before * scale} y="0" width={ms * scale} height="4" key={name} />;
        })}
      </svg>
      <dl>
        {parts.map(({ name, ms }) => (
          <div key={name}>
            <dt>
              <span class={`swatch ${name}`} aria-hidden="true" /> {partTitles[name]}
            </dt>
            <dd class="number">
              {formatMs(ms)} <span class="muted">{sum === 0 ? '' : `${Math.round((ms / sum) * 100)} %`}</span>
            </dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
