/** Files that Vite puts into the page. */
declare module '*.css';
