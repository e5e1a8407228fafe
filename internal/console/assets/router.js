// The view is in the URL's hash, so that it can be linked, reloaded and gone back to:
// #/items/<id>?name=value

// here is the place that the URL names: {parts, params}.
export function here() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { parts: path.split("/").filter(Boolean).map(decoded), params: new URLSearchParams(query ?? "") };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// to is the URL of a place.
export function to(parts, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, v]) => v));
  return `#/${parts.map(encodeURIComponent).join("/")}${query.size ? `?${query}` : ""}`;
}

// go goes to a place.
export function go(parts, params) {
  location.hash = to(parts, params);
}
