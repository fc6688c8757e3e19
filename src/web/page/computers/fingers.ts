/**
 * Fingers on the screen of a computer, as on a touchpad: a PS/2 mouse knows movements, not places,
 * so a finger moves the guest's pointer from where it is. A tap clicks at the pointer: one finger
 * with the left button, two with the right, three with the middle one. Two fingers scroll. A tap
 * and a second touch at once hold the left button until that touch ends.
 */
import type { MouseMove } from '../../../machine/screen.js';

/** Longest time of a tap, and between a tap and the touch that holds the button, in ms. */
const tapMs = 300;
/** A finger that has moved less than this has not moved, in pixels of the page. */
const still = 8;
/** Movement of two fingers for one notch of a wheel, in pixels of the page. */
const notchPixels = 40;
/** The bits of the left, the right and the middle button, by the number of fingers that tap. */
const buttonOf = [0, 1, 2, 4] as const;

/** A touch, in pixels of the page and ms. */
export interface Touch {
  readonly id: number;
  readonly x: number;
  readonly y: number;
  readonly time: number;
}

export class Fingers {
  readonly #send: (move: MouseMove) => void;
  /** Where each finger was last. */
  readonly #at = new Map<number, Touch>();
  /** The first touch of the gesture that goes on. */
  #first: Touch | undefined;
  /** Most fingers of this gesture at once. */
  #most = 0;
  #moved = false;
  #held = 0;
  #lastTap = -Infinity;

  constructor(send: (move: MouseMove) => void) {
    this.#send = send;
  }

  down(touch: Touch): void {
    if (this.#at.size === 0) {
      this.#first = touch;
      this.#most = 0;
      this.#moved = false;
      if (touch.time - this.#lastTap < tapMs) this.#hold(1);
    }
    this.#at.set(touch.id, touch);
    this.#most = Math.max(this.#most, this.#at.size);
  }

  /** @param scale pixels of the guest in one pixel of the page */
  move(touch: Touch, scale: number): void {
    const before = this.#at.get(touch.id);
    if (!before || !this.#first) return;
    const [x, y] = [touch.x - before.x, touch.y - before.y];
    // The first step of a movement has the pixels that could have been a tap.
    if (!this.#moved && Math.hypot(x, y) < still) return;
    this.#moved = true;
    this.#at.set(touch.id, touch);
    if (this.#most === 1) this.#send({ x: x * scale, y: y * scale, buttons: this.#held });
    // The content follows the fingers: upwards is the wheel towards the user.
    else this.#send({ x: 0, y: 0, wheel: -y / this.#at.size / notchPixels, buttons: this.#held });
  }

  up(touch: Touch): void {
    if (!this.#at.delete(touch.id) || this.#at.size > 0) return;
    const tapped = !this.#moved && touch.time - this.#first!.time < tapMs;
    const button = buttonOf[this.#most] ?? 0;
    if (tapped && this.#held === 0) this.#hold(button);
    this.#hold(0);
    this.#lastTap = tapped && this.#most === 1 ? touch.time : -Infinity;
  }

  /** The browser takes the touch for itself. */
  cancel({ id }: Touch): void {
    if (!this.#at.delete(id) || this.#at.size > 0) return;
    this.#lastTap = -Infinity;
    this.#hold(0);
  }

  #hold(buttons: number): void {
    if (buttons === this.#held) return;
    this.#held = buttons;
    this.#send({ x: 0, y: 0, buttons });
  }
}
