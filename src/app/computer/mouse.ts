/** Movements of the mouse in requests to a running computer. */
import type { MouseMove } from '../../machine/screen.js';

/** Longest movement in one request, in steps of the mouse, and most notches of its wheel. */
const most = { steps: 2000, notches: 20 } as const;
/** The mouse has three buttons. */
const allButtons = 7;

/** The movement in a request; undefined if it has none, or one that is too long. */
export function moveOf({ x, y, wheel = 0, buttons }: Readonly<Record<string, unknown>>): MouseMove | undefined {
  const within = (value: unknown, limit: number): value is number =>
    Number.isInteger(value) && Math.abs(value as number) <= limit;
  if (!within(x, most.steps) || !within(y, most.steps) || !within(wheel, most.notches)) return undefined;
  if (!within(buttons, allButtons) || buttons < 0) return undefined;
  return { x, y, wheel, buttons };
}
