/** A curve over time, with a text of its last values for those who do not see it. */
import type { JSX } from 'preact';
import { lazy } from '../base/lazy.js';
import type { PlotProps } from './curves.js';

const Curves = lazy(() => import('./curves.js'));

export function Plot(props: PlotProps): JSX.Element {
  const { title, curves, format } = props;
  return (
    <figure class="plot">
      <figcaption>
        <span class="plot-title">{title}</span>
        {curves.map(({ name, values }, index) => {
          const last = values.at(-1) ?? null;
          return (
            <span class={`plot-curve curve-${index + 1}`} key={name}>
              <span class="swatch" aria-hidden="true" /> {name}{' '}
              <b class="number">{last === null ? '–' : format(last)}</b>
            </span>
          );
        })}
      </figcaption>
      <div class="plot-place" aria-hidden="true">
        <Curves {...props} />
      </div>
    </figure>
  );
}
