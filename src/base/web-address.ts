/**
 * Removes secrets from texts that people and programs see: the login of a web address (RFC 3986
 * §3.2.1); its query, which holds the signature of a presigned address; and a token, as the address
 * of the console page and `nbd+ws://` have one.
 */

/**
 * `text` without the logins and the queries of the http:// and https:// addresses in it, and
 * without tokens of access.
 */
export function withoutSecrets(text: string): string {
  const plain = text.replace(/([?&#]token=)[\w.~%-]+/gi, '$1...');
  return plain.replace(/(https?:\/\/)(\S+)/gi, (_all, scheme: string, rest: string) => {
    // A login that holds a "/" makes the address invalid, so that the login's end is unknown.
    const login = URL.canParse(scheme + rest) ? /^[^/\\?#]*@/ : /^.*@/;
    return scheme + rest.replace(login, '').replace(/\?(?:\.\.\.)?.*?(?=[:;,.)]*$)/, '?...');
  });
}
