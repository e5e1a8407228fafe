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

// search is a query of names and values. Empty ones are left out; an object (metadata) is repeated as
// name=key=value.
export function search(params) {
  return new URLSearchParams(Object.entries(params).flatMap(([name, v]) => {
    if (v === undefined || v === null || v === "") return [];
    return typeof v === "object" ? Object.entries(v).map(([key, value]) => [name, `${key}=${value}`]) : [[name, v]];
  }));
}

// to is the URL of a place.
export function to(parts, params = {}) {
  const query = search(params);
  return `#/${parts.map(encodeURIComponent).join("/")}${query.size ? `?${query}` : ""}`;
}

// go goes to a place.
export function go(parts, params) {
  location.hash = to(parts, params);
}
