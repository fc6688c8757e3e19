/** The error about a word that is neither a command nor, for `farbus help`, a page. */
import { usageError, type FarbusError } from '../base/errors.js';
import { similar } from '../base/similar.js';

export function noSuchCommand(name: string, known: readonly string[]): FarbusError {
  const meant = similar(name, known);
  const guess = meant === undefined ? ';' : `: did you mean ${meant}?`;
  return usageError(`there is no command ${JSON.stringify(name)}${guess} see farbus --help`);
}
