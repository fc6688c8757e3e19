/** Fingers on a page of Chromium, by its debugging protocol. */
import type { Page } from 'playwright-core';

/** A place on the page, in its pixels. */
export interface Finger {
  readonly x: number;
  readonly y: number;
}

export interface Touches {
  tap(fingers: readonly Finger[]): Promise<void>;
  /** Moves all fingers by the same way, in ten steps. */
  drag(fingers: readonly Finger[], by: Finger): Promise<void>;
}

export async function touchesOf(page: Page): Promise<Touches> {
  const session = await page.context().newCDPSession(page);
  await session.send('Emulation.setTouchEmulationEnabled', { enabled: true, maxTouchPoints: 5 });
  type Type = 'touchStart' | 'touchMove' | 'touchEnd';
  // The events have times of their own, so that a busy computer makes no long touch of a tap.
  const send = async (type: Type, timestamp: number, fingers: readonly Finger[] = []): Promise<void> => {
    const touchPoints = fingers.map((finger, id) => ({ ...finger, id }));
    await session.send('Input.dispatchTouchEvent', { type, touchPoints, timestamp });
  };
  return {
    tap: async (fingers) => {
      const now = Date.now() / 1000;
      await send('touchStart', now, fingers);
      await send('touchEnd', now + 0.05);
    },
    drag: async (fingers, { x, y }) => {
      const now = Date.now() / 1000;
      await send('touchStart', now, fingers);
      for (let step = 1; step <= 10; step++) {
        const moved = fingers.map((one) => ({ x: one.x + (x * step) / 10, y: one.y + (y * step) / 10 }));
        await send('touchMove', now + step / 100, moved);
      }
      await send('touchEnd', now + 0.11);
    },
  };
}
