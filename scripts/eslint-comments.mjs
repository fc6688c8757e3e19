/**
 * Lint rule for comments: lines of at most 100 columns, and no line that begins with "What", "Who",
 * "Whether", "Nobody" or "Somebody", unless its sentence is a question. Such comments make readers
 * guess which person or thing is meant (CONTRIBUTING.md, "Language").
 *
 * Not checked: lines with a URL, which cannot be broken, and lines for a tool ("prettier-ignore").
 */
const columns = 100;
const unbreakable = /https?:\/\/|prettier-ignore|eslint-disable/;
const riddle = /^[\s/*]*((?:What|Who)(?:ever)?|Whether|Nobody|Somebody)\b(?![^.]*\?)/;

/** @type {import('eslint').Rule.RuleModule} */
export const comments = {
  meta: {
    type: 'suggestion',
    schema: [],
    messages: {
      long: 'A comment line has at most {{columns}} columns; this one has {{length}}.',
      riddle: 'Name the person or thing instead of beginning with "{{word}}".',
    },
  },
  create({ sourceCode, report }) {
    return {
      Program() {
        for (const { value, loc } of sourceCode.getAllComments()) {
          const parts = value.split('\n');
          for (const [index, part] of parts.entries()) {
            const line = loc.start.line + index;
            const { length } = sourceCode.lines[line - 1];
            const at = { start: { line, column: 0 }, end: { line, column: length } };
            if (length > columns && !unbreakable.test(sourceCode.lines[line - 1])) {
              report({ loc: at, messageId: 'long', data: { columns, length } });
            }
            const [, word] = riddle.exec(part) ?? [];
            if (word) report({ loc: at, messageId: 'riddle', data: { word } });
          }
        }
      },
    };
  },
};
