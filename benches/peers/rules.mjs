// Which requests are for static assets (src/filter.rs, simplified), and a transaction as a line.

export const EXTENSION =
  /\.(css|js|map|mjs|png|jpg|jpeg|gif|svg|svgz|webp|avif|bmp|ico|tif|tiff|woff|woff2|ttf|otf|eot|mp3|mp4|webm|ogg|ogv|avi|wav|mov|mkv|flac|flv|swf)$/i;

export function isStatic(method, stem) {
  return (method === 'GET' || method === 'HEAD') && EXTENSION.test(stem);
}
