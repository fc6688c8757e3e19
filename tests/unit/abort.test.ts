import { expect, test } from 'vitest';
import { onAbort } from '../../src/base/abort.js';

test('calls every listener once, and none that was removed', () => {
  const controller = new AbortController();
  const told: number[] = [];
  const stops = Array.from({ length: 100 }, (_, i) => onAbort(controller.signal, () => told.push(i)));
  for (let i = 0; i < 100; i += 2) stops[i]!();
  controller.abort();
  controller.abort();
  expect(told).toEqual(Array.from({ length: 50 }, (_, i) => 2 * i + 1));
  for (const stop of stops) stop();
});

test('a listener may remove another one during the calls', () => {
  const controller = new AbortController();
  const told: string[] = [];
  onAbort(controller.signal, () => {
    told.push('first');
    stop();
  });
  const stop = onAbort(controller.signal, () => told.push('second'));
  controller.abort();
  expect(told).toEqual(['first']);
});

test('does nothing without a signal, or after the abort', () => {
  expect(() => onAbort(undefined, () => expect.fail())()).not.toThrow();
  onAbort(AbortSignal.abort(), () => expect.fail())();
});

test('a signal that many share has one listener, so that Node does not warn', async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  process.on('warning', warned);
  const controller = new AbortController();
  for (let i = 0; i < 50; i++) onAbort(controller.signal, () => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', warned);
  expect(warnings).toEqual([]);
});
