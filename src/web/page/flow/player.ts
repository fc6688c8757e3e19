/**
 * Plays commands in the picture: one at a time, slowed down, leg by leg. Commands are far more
 * frequent than eyes can follow, so the newest one is next, and those between are not played.
 */
import { useEffect, useState } from 'preact/hooks';
import type { Command } from './command.js';
import { legs, type LegName } from './way.js';

/** Time for which one leg is lit, in ms. */
const legMs = 420;
/** Time for which the whole way of a command stays lit, in ms. */
const restMs = 1400;

const calm = matchMedia('(prefers-reduced-motion: reduce)');

interface Played {
  readonly command: Command | undefined;
  readonly lit: LegName | undefined;
}

/** Legs that are played: those of the client only if it was seen. */
function legsOf(command: Command): readonly LegName[] {
  const all = command.parts.computer !== undefined;
  return legs.filter(({ part }) => all || part === 'network' || part === 'disk').map(({ name }) => name);
}

/** @param next the command to play next: the newest, or the one that the user holds */
export function usePlayer(next: Command | undefined): Played {
  const [played, setPlayed] = useState<Played>({ command: next, lit: undefined });
  const [at, setAt] = useState(-1);
  const { command } = played;
  const way = command === undefined ? [] : legsOf(command);
  const atRest = at < 0 || at >= way.length;

  useEffect(() => {
    if (next === undefined || next === command) return;
    // At rest the next one begins at once; otherwise after the one that is being played.
    const begin = (): void => {
      setPlayed({ command: next, lit: undefined });
      setAt(calm.matches ? -1 : 0);
    };
    if (!atRest) return;
    const timer = setTimeout(begin, command === undefined ? 0 : restMs);
    return () => clearTimeout(timer);
  }, [next?.key, command?.key, atRest]);

  useEffect(() => {
    if (atRest) return;
    const timer = setTimeout(() => setAt(at + 1), legMs);
    return () => clearTimeout(timer);
  }, [at, atRest]);

  return { command: command ?? next, lit: atRest ? undefined : way[at] };
}
