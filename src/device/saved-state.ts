/**
 * Checks of a device's state from a snapshot. Its file may be made by an enemy, and a number that
 * is none, or that is out of range, could make a device loop or throw while the guest uses it.
 */

/** A state that no device can have saved. */
export class StateFault extends Error {
  override readonly name = 'StateFault';

  constructor() {
    super('the state of a device is damaged');
  }
}

/** Numbers of a state are exact, and registers may be signed. */
const lowestNumber = -(2 ** 31);

/** Of a register with 32 bits. A larger number can differ from 0 and yet have none of them set. */
export const highestRegister = 2 ** 32 - 1;

/**
 * Checks that `saved` has the form of `own`, the present state of the same device: the same members
 * and types, and whole numbers. Lists have the same length. Members that are empty in `own`
 * (undefined, or a list without elements) are not checked: the device does that. No number is above
 * `most`.
 * @throws StateFault
 */
export function checkLike(own: unknown, saved: unknown, most: number = Number.MAX_SAFE_INTEGER): void {
  if (own === undefined || own === null) return;
  if (typeof own !== 'object') {
    if (typeof saved !== typeof own) throw new StateFault();
    if (typeof saved !== 'number') return;
    if (!Number.isSafeInteger(saved) || saved < lowestNumber || saved > most) throw new StateFault();
    return;
  }
  if (typeof saved !== 'object' || saved === null || Array.isArray(own) !== Array.isArray(saved))
    throw new StateFault();
  if (Array.isArray(own)) {
    if (own.length > 0 && own.length !== (saved as unknown[]).length) throw new StateFault();
    own.forEach((element, i) => checkLike(element, (saved as unknown[])[i], most));
    return;
  }
  if (!Object.keys(saved).every((key) => Object.hasOwn(own, key))) throw new StateFault();
  for (const [key, value] of Object.entries(own)) checkLike(value, (saved as Record<string, unknown>)[key], most);
}

/**
 * A whole number from 0 to `most`, and a multiple of `step`.
 * @throws StateFault
 */
export function savedNumber(value: unknown, most: number, step = 1): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > most || value % step !== 0)
    throw new StateFault();
  return value;
}
