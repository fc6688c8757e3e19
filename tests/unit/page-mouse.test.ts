/** The mouse and fingers on a screen of the page, as they are sent to a computer. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { MouseMove } from '../../src/machine/screen.js';
import { Fingers, type Touch } from '../../src/web/page/computers/fingers.js';
import { MouseSender } from '../../src/web/page/computers/mouse.js';

it('adds up movements while one is on its way, keeps fractions, and loses no click', async () => {
  const sent: MouseMove[] = [];
  let answer: (() => void) | undefined;
  const sender = new MouseSender((move) => {
    sent.push(move);
    return new Promise<void>((resolve) => (answer = resolve));
  });
  const answered = async (): Promise<void> => {
    answer!();
    await new Promise((resolve) => setImmediate(resolve));
  };
  // Nothing has happened yet.
  sender.add({ x: 0.4, y: 0, buttons: 0 });
  expect(sent).toEqual([]);
  sender.add({ x: 0.7, y: 2, buttons: 0 });
  sender.add({ x: 3, y: -1, buttons: 0 });
  sender.add({ x: 4, y: -1, buttons: 0 });
  sender.add({ x: 0, y: 0, buttons: 1 });
  sender.add({ x: 5000, y: 0, wheel: -2, buttons: 1 });
  sender.add({ x: 0, y: 0, buttons: 0 });
  expect(sent).toEqual([{ x: 1, y: 2, wheel: 0, buttons: 0 }]);
  for (let count = 0; count < 4; count++) await answered();
  expect(sent.slice(1)).toEqual([
    { x: 7, y: -2, wheel: 0, buttons: 0 },
    { x: 1000, y: 0, wheel: -2, buttons: 1 },
    { x: 0, y: 0, wheel: 0, buttons: 0 },
  ]);
});

it('goes on after a movement that could not be sent', async () => {
  const sent: number[] = [];
  const sender = new MouseSender(({ x }) => {
    sent.push(x);
    return Promise.reject(new Error('no server'));
  });
  sender.add({ x: 1, y: 0, buttons: 0 });
  sender.add({ x: 2, y: 0, buttons: 1 });
  await new Promise((resolve) => setImmediate(resolve));
  expect(sent).toEqual([1, 2]);
});

describe('fingers', () => {
  const sent: MouseMove[] = [];
  let fingers: Fingers;
  beforeEach(() => {
    sent.length = 0;
    fingers = new Fingers((move) => sent.push(move));
  });
  const touch = (time: number, x = 0, y = 0, id = 1): Touch => ({ id, x, y, time });
  const press = (buttons: number): MouseMove => ({ x: 0, y: 0, buttons });

  it('click where the pointer is: one, two and three fingers, each with its button', () => {
    for (const [most, button] of [1, 2, 4].entries()) {
      const from = most * 1000;
      sent.length = 0;
      for (let id = 0; id <= most; id++) fingers.down(touch(from, id * 50, 0, id));
      for (let id = 0; id <= most; id++) fingers.up(touch(from + 100, id * 50, 0, id));
      expect(sent).toEqual([press(button), press(0)]);
    }
  });

  it('click twice by two taps, and hold the button by a tap and a drag at once', () => {
    fingers.down(touch(0));
    fingers.up(touch(50));
    fingers.down(touch(150));
    fingers.up(touch(200));
    expect(sent).toEqual([press(1), press(0), press(1), press(0)]);
    sent.length = 0;
    fingers.down(touch(300));
    fingers.move(touch(310, 20, 0), 1);
    fingers.up(touch(900, 20, 0));
    expect(sent).toEqual([press(1), { x: 20, y: 0, buttons: 1 }, press(0)]);
    sent.length = 0;
    // A drag is no tap: the next touch holds nothing.
    fingers.down(touch(950));
    fingers.up(touch(1400));
    expect(sent).toEqual([]);
  });

  it('move the pointer by pixels of the guest, and scroll together', () => {
    fingers.down(touch(0));
    // Too little to be a movement; it is part of the first one.
    fingers.move(touch(5, 3, 3), 2);
    expect(sent).toEqual([]);
    fingers.move(touch(10, 10, 0), 2);
    fingers.move(touch(20, 11, -4), 2);
    fingers.up(touch(30, 11, -4));
    expect(sent).toEqual([
      { x: 20, y: 0, buttons: 0 },
      { x: 2, y: -8, buttons: 0 },
    ]);
    sent.length = 0;
    fingers.down(touch(1000, 0, 100, 1));
    fingers.down(touch(1000, 50, 100, 2));
    fingers.move(touch(1010, 0, 60, 1), 2);
    fingers.move(touch(1010, 50, 60, 2), 2);
    fingers.up(touch(1020, 0, 60, 1));
    fingers.up(touch(1020, 50, 60, 2));
    expect(sent.map(({ wheel }) => wheel)).toEqual([0.5, 0.5]);
  });

  it('let the button go if the browser takes the touch', () => {
    fingers.down(touch(0));
    fingers.up(touch(50));
    fingers.down(touch(100));
    fingers.cancel(touch(120));
    expect(sent).toEqual([press(1), press(0), press(1), press(0)]);
    // Touches that began elsewhere.
    fingers.move(touch(130, 50, 50), 1);
    fingers.up(touch(140));
    expect(sent).toHaveLength(4);
  });
});
