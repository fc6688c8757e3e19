/** Lays out the list of `farbus ps` in columns that fit the terminal. */
import { visible } from '../../base/printable.js';

export interface Row {
  readonly name: string;
  readonly kind: string;
  readonly up: string;
  readonly uses: readonly string[];
  readonly reach: readonly string[];
}

/** Columns between two fields. */
const gap = 2;
/** Widest name that a terminal shows as a whole. */
const widestName = 24;
/** The sources get at least so many columns, or the way to reach the process gets its own line. */
const leastUses = 12;
/** Narrowest terminal that is considered. */
const leastWidth = 40;

/**
 * The table with its heading. If a row would not fit, every row has a second line with how to reach
 * the process. A text that is still too long is shortened in its middle. In a width of Infinity,
 * which is that of a pipe, no text is shortened.
 */
export function layOut(rows: readonly Row[], terminal: number): string {
  const width = Math.max(leastWidth, terminal);
  const longest = width === Infinity ? Infinity : widestName;
  const cells = rows.map(({ name, kind, up, uses, reach }) => ({
    fixed: [shorten(visible(name), longest), kind, up],
    uses: visible(uses.join(', ')),
    reach: visible(reach.length > 1 ? `${reach[0]!} +${reach.length - 1}` : (reach[0] ?? '')),
  }));
  const heading = { fixed: ['NAME', 'KIND', 'UP'], uses: 'USES', reach: 'REACH IT BY' };
  const all = [heading, ...cells];
  const widths = heading.fixed.map((_, column) => widest(all.map(({ fixed }) => fixed[column]!)));
  const start = widths.reduce((sum, one) => sum + one + gap, 0);
  const reachWidth = widest(all.map(({ reach }) => reach));
  const left = width - start - gap - reachWidth;
  const widestUses = widest(all.map(({ uses }) => uses));
  const usesWidth = Math.min(left, widestUses);
  const oneLine = usesWidth >= Math.min(leastUses, widestUses);
  const lines = all.flatMap(({ fixed, uses, reach }) => {
    const first = fixed.map((text, column) => text.padEnd(widths[column]! + gap)).join('');
    if (oneLine) return [`${first}${shorten(uses, usesWidth).padEnd(usesWidth + gap)}${reach}`];
    const second = reach === '' ? [] : [`  ${shorten(reach, width - 2)}`];
    return [first + shorten(uses, width - start), ...second];
  });
  return lines.map((line) => `${line.trimEnd().slice(0, width)}\n`).join('');
}

function widest(texts: readonly string[]): number {
  return Math.max(...texts.map((text) => text.length));
}

/** `text` in at most `width` columns: the beginning and the end of a source say the most. */
function shorten(text: string, width: number): string {
  if (text.length <= width) return text;
  if (width < 8) return text.slice(0, Math.max(0, width));
  const end = Math.floor((width - 3) / 2);
  return `${text.slice(0, width - 3 - end)}...${text.slice(text.length - end)}`;
}
