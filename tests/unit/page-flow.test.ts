/** Which command and which leg the picture of the flow shows, one frame after the other. */
import { describe, expect, it } from 'vitest';
import type { Command } from '../../src/web/page/flow/command.js';
import { nextFrame, playedLegs, type Frame } from '../../src/web/page/flow/frames.js';

const start: Frame = { command: undefined, at: 0 };

function command(key: string, parts: Command['parts'] = { computer: 1, network: 1, completion: 1 }): Command {
  const range = { kind: 'read', offset: 0, length: 512 };
  return { key, ...range, disk: 'disk', client: '', began: 0, ms: undefined, parts, failed: undefined };
}

/** The frames after `from`, while each frame has a log of its own. */
function play(from: Frame, logs: readonly (readonly Command[])[], held?: Command, calm = false): Frame[] {
  let frame = from;
  return logs.map((log) => (frame = nextFrame(frame, log, held, calm)));
}

describe('the frames of the picture', () => {
  it('play one command to its end while newer ones come without a pause, then the newest', () => {
    const logs = Array.from({ length: 12 }, (_, at) => [command(String(at))]);
    const frames = play(start, logs);
    const shown = frames.map(({ command: of, at }) => `${of!.key}: ${playedLegs(of!)[at] ?? 'all'}`);
    const legs = ['call', 'trap', 'issue', 'send', 'serve', 'disk', 'reply', 'done', 'all', 'all', 'all'];
    expect(shown).toEqual([...legs.map((leg) => `0: ${leg}`), '11: call']);
  });

  it('play only the legs of the server for a command of another client', () => {
    const other = command('1', { disk: 1 });
    expect(playedLegs(other)).toEqual(['send', 'serve', 'disk', 'reply']);
  });

  it('are the same object while nothing changes, so that nothing is drawn', () => {
    const log = [command('1')];
    const last = play(
      start,
      Array.from({ length: 20 }, () => log),
    ).at(-1)!;
    expect(nextFrame(last, log, undefined, false)).toBe(last);
    expect(nextFrame(start, [], undefined, false)).toBe(start);
  });

  it('take over the times of the server that come later, at rest too', () => {
    const before = command('1');
    const last = play(
      start,
      Array.from({ length: 20 }, () => [before]),
    ).at(-1)!;
    const joined = command('1', { ...before.parts, disk: 0.5 });
    expect(nextFrame(last, [joined], undefined, false).command).toBe(joined);
    // The log keeps the last commands only.
    expect(nextFrame(last, [], undefined, false).command).toBe(before);
  });

  it('play the command that the user holds, also after the log has lost it', () => {
    const held = command('held');
    const frames = play(
      { command: command('1'), at: 20 },
      Array.from({ length: 30 }, (_, at) => [command(`${at}`)]),
      held,
    );
    expect(new Set(frames.map(({ command: of }) => of!.key))).toEqual(new Set(['held']));
  });

  it('play a command with all its times before newer ones without, unless it is old', () => {
    const newer = { ...command('newer', { disk: 1 }), began: 5000 };
    const whole = { ...command('whole', { computer: 1, network: 1, disk: 1, completion: 1 }), began: 4000 };
    expect(nextFrame(start, [newer, whole], undefined, false).command).toBe(whole);
    expect(nextFrame(start, [newer, { ...whole, began: 2000 }], undefined, false).command).toBe(newer);
  });

  it('show the whole way at once if the user wants little movement', () => {
    const frames = play(start, [[command('1')], [command('2')], [command('3')], [command('4')]], undefined, true);
    expect(frames.map(({ command: of, at }) => [of!.key, playedLegs(of!)[at]])).toEqual([
      ['1', undefined],
      ['1', undefined],
      ['1', undefined],
      ['4', undefined],
    ]);
  });
});
