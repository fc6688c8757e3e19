/** The drawing of a plot (uPlot). Its code is loaded when the first plot is shown. */
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { colour } from '../base/colours.js';
import { isDark } from '../base/theme.js';
import { useStore } from '../base/store.js';

/** A curve: its name, and its values at the times of the plot; null where there is none. */
export interface Curve {
  readonly name: string;
  readonly values: readonly (number | null)[];
}

export interface PlotProps {
  readonly title: string;
  /** In seconds since 1970. */
  readonly times: readonly number[];
  readonly curves: readonly Curve[];
  /** Writes a value with its unit. */
  readonly format: (value: number) => string;
  /** The scale reaches at least to this value, so that a quiet line is not all noise. */
  readonly least: number;
  /** Steps between the marks of the value axis are powers of this number. */
  readonly base: 2 | 10;
  /** Seconds that the plot shows. */
  readonly span: number;
}

const height = 132;
/** Steps between byte counts: 1 B to 1 PiB. */
const powers = Array.from({ length: 51 }, (_, index) => 2 ** index);

function clock(seconds: number): string {
  return new Date(seconds * 1000).toTimeString().slice(0, 8);
}

export default function Curves({ times, curves, format, least, base, span }: PlotProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const dark = useStore(isDark);
  const names = curves.map(({ name }) => name).join('\n');

  useEffect(() => {
    const at = place.current!;
    const axis = { stroke: colour('muted'), grid: { stroke: colour('line'), width: 1 }, ticks: { show: false } };
    const font = '12px system-ui, sans-serif';
    const made = new uPlot(
      {
        width: at.clientWidth,
        height,
        cursor: { show: false },
        legend: { show: false },
        padding: [8, 22, 0, 0],
        scales: {
          x: { time: true, range: (_, __, max) => [max - span, max] },
          y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.1)] },
        },
        axes: [
          {
            ...axis,
            font,
            size: 24,
            space: 90,
            values: (_, at_) => at_.map((s) => clock(s)),
          },
          {
            ...axis,
            font,
            size: 76,
            space: 34,
            ...(base === 2 && { incrs: powers }),
            values: (_, at_) => at_.map(format),
          },
        ],
        series: [
          {},
          ...curves.map((_, index) => ({
            stroke: colour(`curve-${index + 1}`),
            width: 1.6,
            points: { show: false },
            ...(index > 0 && { dash: [5, 3] }),
          })),
        ],
      },
      [[], ...curves.map(() => [])] as uPlot.AlignedData,
      at,
    );
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: at.clientWidth, height }));
    resized.observe(at);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [dark, names, span]);

  useEffect(() => {
    plot.current?.setData([times, ...curves.map(({ values }) => values)] as unknown as uPlot.AlignedData);
  });

  return <div ref={place} />;
}
