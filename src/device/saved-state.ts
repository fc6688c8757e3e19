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

/**
 * Checks that `saved` has the form of `own`, the present state of the same device: the same members
 * and types, and whole numbers. Lists have the same length. Members that are empty in `own`
 * (undefined, or a list without elements) are not checked: the device does that.
 * @throws StateFault
 */
export function checkLike(own: unknown, saved: unknown): void {
  if (own === undefined || own === null) return;
  if (typeof own !== 'object') {
    const number = typeof saved === 'number';
    if (typeof saved !== typeof own || (number && !(Number.isSafeInteger(saved) && saved >= lowestNumber)))
      throw new StateFault();
    return;
  }
  if (typeof saved !== 'object' || saved === null || Array.isArray(own) !== Array.isArray(saved))
    throw new StateFault();
  if (Array.isArray(own)) {
    if (own.length > 0 && own.length !== (saved as unknown[]).length) throw new StateFault();
    own.forEach((element, i) => checkLike(element, (saved as unknown[])[i]));
    return;
  }
  if (!Object.keys(saved).every((key) => Object.hasOwn(own, key))) throw new StateFault();
  for (const [key, value] of Object.entries(own)) checkLike(value, (saved as Record<string, unknown>)[key]);
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
