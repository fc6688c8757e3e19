/**
 * Plays commands in the picture, slowed down. The picture changes once in each interval and stands
 * still between: movement would be drawn 60 times a second, by the processors on which the guest
 * runs.
 */
import { useEffect, useRef, useState } from 'preact/hooks';
import { commandLog } from '../state/commands.js';
import type { Command } from './command.js';
import { nextFrame, playedLegs, type Frame } from './frames.js';
import type { LegName } from './way.js';

/** Time for which one leg is lit, in ms. */
const legMs = 600;

interface Played {
  readonly command: Command | undefined;
  readonly lit: LegName | undefined;
}

const calm = matchMedia('(prefers-reduced-motion: reduce)');

export function usePlayer(held: Command | undefined): Played {
  const [{ command, at }, show] = useState<Frame>({ command: undefined, at: 0 });
  const latest = useRef(held);
  latest.current = held;
  useEffect(() => {
    const play = (): void => show((before) => nextFrame(before, commandLog.value, latest.current, calm.matches));
    play();
    const timer = setInterval(play, legMs);
    return () => clearInterval(timer);
  }, []);
  return { command, lit: command && playedLegs(command)[at] };
}
