/**
 * Error texts for faulty YAML files. The yaml package's own messages name its functions and
 * internals, which mean nothing to the person who wrote the file.
 */
import type { ErrorCode } from 'yaml';

const faults: ReadonlyMap<ErrorCode, string> = new Map<ErrorCode, string>([
  ['ALIAS_PROPS', 'an alias (*name) can have no anchor and no tag'],
  ['BAD_ALIAS', 'a name of an anchor or alias is missing or has a character that it cannot have'],
  ['BAD_COLLECTION_TYPE', 'a tag does not fit a mapping or a list'],
  ['BAD_DIRECTIVE', 'a line that begins with % is not understood: only %YAML and %TAG are'],
  ['BAD_DQ_ESCAPE', 'a text in double quotes has a backslash before a character that needs none: use single quotes'],
  ['BAD_INDENT', 'the indentation is not that of the lines before, or a bracket before is not closed'],
  ['BAD_PROP_ORDER', 'an anchor or a tag stands in the wrong place'],
  ['BAD_SCALAR_START', 'a text begins with a character that has a meaning of its own: put it in quotes'],
  ['BLOCK_AS_IMPLICIT_KEY', 'a line has a second "key: value": put the value in quotes, or on a line of its own'],
  ['BLOCK_IN_FLOW', 'a list or mapping by lines stands within brackets'],
  ['DUPLICATE_KEY', 'a key is there twice'],
  ['KEY_OVER_1024_CHARS', 'a key is longer than 1024 characters'],
  ['MISSING_CHAR', 'a closing quote, a closing bracket, a comma, or a colon or blank is missing'],
  ['MULTILINE_IMPLICIT_KEY', 'a key goes over several lines: is a colon missing?'],
  ['MULTIPLE_ANCHORS', 'a value has two anchors'],
  ['MULTIPLE_DOCS', 'the file has several documents: leave "---" out, or take another file for the second'],
  ['MULTIPLE_TAGS', 'a value has two tags'],
  ['NON_STRING_KEY', 'a key is no text'],
  ['TAB_AS_INDENT', 'a tab stands at the beginning of a line: indent with blanks'],
  ['TAG_RESOLVE_FAILED', 'a tag (!name) is not known'],
  ['UNEXPECTED_TOKEN', 'something stands where it cannot be: is a quote or a bracket missing before?'],
]);

/** The text for an error code of the yaml package: one line. */
export function yamlFault(code: ErrorCode): string {
  return faults.get(code) ?? 'this is no YAML';
}
