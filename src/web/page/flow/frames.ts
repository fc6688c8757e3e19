/**
 * The frames of the picture, one after the other: a command, leg by leg, then its whole way, then a
 * new one. Commands are far more frequent than eyes can follow, so those between are not played.
 */
import { partNames, type Command } from './command.js';
import { legs, type LegName } from './way.js';

/** Number of frames for which the whole way of a command stays lit. */
const restLegs = 2;

/** A state of the picture. */
export interface Frame {
  readonly command: Command | undefined;
  /** Index of the leg that is lit. From the number of legs on: the whole way, at rest. */
  readonly at: number;
}

/** The legs that are played: those of the client only if it was seen. */
export function playedLegs({ parts }: Command): readonly LegName[] {
  const all = parts.computer !== undefined;
  return legs.filter(({ part }) => all || part === 'network' || part === 'disk').map(({ name }) => name);
}

/** A command with all its times is played before others that are at most this much newer, in ms. */
const recentMs = 2000;

/** The command to play next, if the user holds none. */
function newestOf(log: readonly Command[]): Command | undefined {
  const newest = log[0];
  const whole = ({ began, parts }: Command): boolean =>
    newest!.began - began < recentMs && partNames.every((name) => parts[name] !== undefined);
  return log.find(whole) ?? newest;
}

/**
 * The frame after `before`.
 * @param log newest first
 * @param held the command that the user holds; it is played next instead of the newest
 * @param calm true: the legs are not played, because the user wants little movement
 */
export function nextFrame(before: Frame, log: readonly Command[], held: Command | undefined, calm: boolean): Frame {
  const { at } = before;
  // The server’s times of a command may have come since.
  const command = log.find(({ key }) => key === before.command?.key) ?? before.command;
  const end = command === undefined ? 0 : playedLegs(command).length + restLegs;
  if (at < end) return { command, at: at + 1 };
  const next = held ?? newestOf(log);
  if (next !== undefined && next.key !== command?.key) {
    return { command: next, at: calm ? playedLegs(next).length : 0 };
  }
  return command === before.command ? before : { command, at };
}
