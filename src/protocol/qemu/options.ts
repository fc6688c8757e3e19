/** The options by which a user tells the format of a source, and the files that it may use. */
import { usageError } from '../../base/errors.js';
import { defineFilter, parseFile } from '../../block/filters/definition.js';
import { imageFormats, type ImageFormat } from './formats.js';

/** How the bytes of a source are read: raw, or as an image format. */
export type SourceFormat = 'raw' | ImageFormat;

const formats: readonly SourceFormat[] = ['raw', ...imageFormats];

export const imageOptions = defineFilter({
  options: {
    format: {
      value: 'FORMAT',
      choices: formats,
      about:
        `how the source's bytes are read: ${formats.join(', ')}. Without it the file's name decides. ` +
        'Images need qemu-nbd',
      parse: (text, name): SourceFormat => {
        const found = formats.find((one) => one === text);
        if (!found) throw usageError(`${name} ${text}: expected one of ${formats.join(', ')}`);
        return found;
      },
    },
    'may-open': {
      value: 'FILE',
      list: true,
      about:
        'a further file that an image may use: its backing file, data file or extent; or a folder, ' +
        'whose files it may use. It may be given several times',
      parse: (text, name): readonly string[] => [parseFile(text, name)],
    },
  },
});
