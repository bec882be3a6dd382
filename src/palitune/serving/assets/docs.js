// The routes of /openapi.json as a page, without files from other hosts.

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function resolve(schema, components) {
  const name = schema?.$ref?.split("/").pop();
  return name ? components[name] : schema;
}

function typeOf(schema) {
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.type === "array") return `list of ${typeOf(schema.items ?? {})}`;
  return schema.type ?? "any";
}

function fieldRows(schema) {
  return Object.entries(schema.properties ?? {}).map(([name, field]) =>
    element(
      "tr",
      {},
      element("th", { textContent: name }),
      element("td", { textContent: typeOf(field) }),
      element("td", { textContent: field.default === undefined ? "" : JSON.stringify(field.default) }),
      element("td", { textContent: field.description ?? "" }),
    ),
  );
}

function routeArticle(path, method, route, components) {
  const article = element("article", { className: "answer" });
  article.append(
    element("h2", { textContent: `${method.toUpperCase()} ${path}` }),
    element("p", { textContent: route.description ?? route.summary ?? "" }),
  );
  const schema = resolve(route.requestBody?.content?.["application/json"]?.schema, components);
  if (schema) {
    const titles = ["field", "type", "default", ""].map((textContent) =>
      element("th", { textContent }),
    );
    const body = element("tbody", {}, ...fieldRows(schema));
    article.append(element("table", {}, element("thead", {}, element("tr", {}, ...titles)), body));
  }
  return article;
}

const key = sessionStorage.getItem("key");
const headers = key ? { Authorization: `Bearer ${key}` } : {};
const response = await fetch("/openapi.json", { headers });
const routes = document.getElementById("routes");
if (response.ok) {
  const { paths, components } = await response.json();
  routes.replaceChildren(
    ...Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, route]) =>
        routeArticle(path, method, route, components?.schemas ?? {}),
      ),
    ),
  );
} else {
  routes.replaceChildren(element("p", { textContent: "Enter the API key in the playground first." }));
}
