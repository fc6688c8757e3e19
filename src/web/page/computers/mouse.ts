/**
 * The mouse over the screen of a computer. A PS/2 mouse knows movements, not places: the guest's
 * pointer moves as this one does, and may be elsewhere.
 */
import type { MouseMove } from '../../../machine/screen.js';
import { Fingers, type Touch } from './fingers.js';

/** Longest movement in one message, in steps of the mouse and notches of its wheel. */
const most = { steps: 1000, notches: 10 } as const;
/** Pixels, and lines, of a browser's wheel for one notch of a mouse. */
const notch = { pixels: 100, lines: 3 } as const;

/**
 * Sends movements one after the other. While one is on its way, those that follow with the same
 * buttons are added up, so a slow network gets fewer, and no click is lost.
 */
export class MouseSender {
  readonly #send: (move: MouseMove) => Promise<unknown>;
  readonly #waiting: { x: number; y: number; wheel: number; readonly buttons: number }[] = [];
  /** Parts of steps that were not sent yet. */
  readonly #rest = { x: 0, y: 0, wheel: 0 };
  #buttons = 0;
  #sending = false;

  /** @param send may fail: the movement is then lost */
  constructor(send: (move: MouseMove) => Promise<unknown>) {
    this.#send = send;
  }

  /** A movement, with fractions of steps. */
  add({ x, y, wheel = 0, buttons }: MouseMove): void {
    const move = { x: this.#whole('x', x), y: this.#whole('y', y), wheel: this.#whole('wheel', wheel), buttons };
    const last = this.#waiting.at(-1);
    if (last?.buttons === buttons) {
      last.x += move.x;
      last.y += move.y;
      last.wheel += move.wheel;
    } else if (move.x !== 0 || move.y !== 0 || move.wheel !== 0 || buttons !== this.#buttons) {
      this.#waiting.push(move);
    }
    this.#buttons = buttons;
    if (!this.#sending) void this.#sendAll();
  }

  #whole(of: 'x' | 'y' | 'wheel', value: number): number {
    const all = this.#rest[of] + value;
    this.#rest[of] = all - Math.trunc(all);
    return Math.trunc(all);
  }

  async #sendAll(): Promise<void> {
    this.#sending = true;
    for (let move = this.#waiting.shift(); move; move = this.#waiting.shift()) {
      const { x, y, wheel, buttons } = move;
      const { steps, notches } = most;
      const sent = { x: within(x, steps), y: within(y, steps), wheel: within(wheel, notches), buttons };
      try {
        await this.#send(sent);
      } catch {
        // As with a mouse that is unplugged.
      }
    }
    this.#sending = false;
  }
}

/** The part of a movement that is sent: the guest's pointer is at an edge of its screen then. */
function within(value: number, limit: number): number {
  return Math.max(-limit, Math.min(limit, value));
}

/** The events of a screen's picture, for its element. */
export interface MouseEvents {
  readonly draggable: false;
  onPointerMove(event: PointerEvent): void;
  onPointerDown(event: PointerEvent): void;
  onPointerUp(event: PointerEvent): void;
  onPointerCancel(event: PointerEvent): void;
  onWheel(event: WheelEvent): void;
  onContextMenu(event: Event): void;
}

/** Passes the mouse and fingers on a picture, a canvas or an image, on to a computer. */
export function mouseEvents(sender: MouseSender): MouseEvents {
  const fingers = new Fingers((move) => sender.add(move));
  const move = (event: PointerEvent): void => {
    const scale = scaleOf(event);
    if (event.pointerType !== 'mouse') fingers.move(touchOf(event), scale);
    else sender.add({ x: event.movementX * scale, y: event.movementY * scale, buttons: event.buttons & 7 });
  };
  return {
    draggable: false,
    onPointerMove: move,
    onPointerDown: (event) => {
      if (event.pointerType !== 'mouse') {
        if (hasFocus(event)) fingers.down(touchOf(event));
        return;
      }
      // A button that is let go outside of the picture must not stay pressed.
      (event.currentTarget as Element).setPointerCapture(event.pointerId);
      move(event);
    },
    onPointerUp: (event) => (event.pointerType === 'mouse' ? move(event) : fingers.up(touchOf(event))),
    onPointerCancel: (event) => fingers.cancel(touchOf(event)),
    onWheel: (event) => {
      if (!hasFocus(event)) return;
      event.preventDefault();
      const one = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? notch.pixels : notch.lines;
      sender.add({ x: 0, y: 0, wheel: event.deltaY / one, buttons: event.buttons & 7 });
    },
    onContextMenu: (event) => event.preventDefault(),
  };
}

/** Wheel and fingers scroll the page until the screen has the focus. */
function hasFocus(event: Event): boolean {
  return (event.currentTarget as Element).parentElement === document.activeElement;
}

/** The mouse moves by pixels of the guest, whose picture may be smaller or larger here. */
function scaleOf({ currentTarget }: PointerEvent): number {
  const shown = currentTarget as HTMLImageElement | HTMLCanvasElement;
  const width = 'naturalWidth' in shown ? shown.naturalWidth : shown.width;
  return width / Math.max(1, shown.clientWidth);
}

function touchOf({ pointerId, clientX, clientY, timeStamp }: PointerEvent): Touch {
  return { id: pointerId, x: clientX, y: clientY, time: timeStamp };
}
