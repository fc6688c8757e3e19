/** Makes a command of its table. */
import { parseOptions } from './options.js';
import type { Command, CommandTable, Options } from './table.js';

export function defineCommand<const O extends Options>(table: CommandTable<O>): Command {
  return { ...table, run: async (args, io, program) => table.run(parseOptions(table, args), io, program) };
}
