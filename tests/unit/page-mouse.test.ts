/** The mouse over a screen of the page, as it is sent to a computer. */
import { expect, it } from 'vitest';
import type { MouseMove } from '../../src/machine/screen.js';
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
