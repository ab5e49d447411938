// The API's description with a console. A list can be asked for at once: the first store and package of this server are
// filled in where a path or an example names one.
"use strict";

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function firstIds() {
  try {
    const store = (await get("/v1/stores?sort=created_at&per_page=1&fields=id")).data[0];
    if (!store) return {};
    const packages = await get(`/v1/stores/${store.id}/packages?sort=created_at&per_page=1&fields=id`);
    return { store_id: store.id, package_id: packages.data[0]?.id };
  } catch {
    return {};
  }
}

function fillIn(description, ids) {
  for (const operations of Object.values(description.paths)) {
    for (const operation of Object.values(operations)) {
      for (const parameter of operation.parameters ?? []) {
        if (parameter.in === "path" && ids[parameter.name]) parameter.example = ids[parameter.name];
      }
      const examples = operation.requestBody?.content["application/json"].examples ?? {};
      for (const example of Object.values(examples)) {
        for (const name of ["store_id", "package_id"]) {
          if (ids[name] && example.value?.[name]) example.value[name] = ids[name];
        }
      }
    }
  }
}

async function show() {
  const [description, ids] = await Promise.all([get("/openapi.json"), firstIds()]);
  fillIn(description, ids);
  window.ui = SwaggerUIBundle({
    // Logging in needs no token, so the console would not send the one that a narrower token is asked for with.
    requestInterceptor: (request) => {
      const isNarrower = request.url.endsWith("/v1/tokens") && request.method === "POST" && /"scopes"/.test(request.body);
      const bearer = window.ui?.authSelectors.authorized().getIn(["bearer", "value"]);
      if (isNarrower && bearer) request.headers.Authorization = `Bearer ${bearer}`;
      return request;
    },
    spec: description,
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    docExpansion: "none",
    filter: true,
    // A token that is typed in is forgotten with the page: it opens everything for a month.
    persistAuthorization: false,
    // Would ask an online service what it thinks of the description.
    validatorUrl: null,
  });
}

show().catch((error) => {
  document.getElementById("swagger-ui").textContent = `The API's description cannot be loaded: ${error.message}`;
});
