// The page: GraphiQL with Guildhall's starter, its state kept for this browser tab only.
import "./workers";
import { GraphiQL } from "graphiql";
import { createRoot } from "react-dom/client";
import { fetcher } from "./fetcher";
import { headers, variablesFor, welcome } from "./welcome";
import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./page.css";

/** The set-up token of `/playground#setup=TOKEN`, removed from the address bar and the history entry. */
function takeSetupToken(): string | null {
  const token = new URLSearchParams(location.hash.slice(1)).get("setup");
  if (token !== null) {
    history.replaceState(null, "", location.pathname + location.search);
  }
  return token;
}

// Passwords and tokens pass through these editors. sessionStorage survives a reload and ends with the
// tab; GraphiQL's default, localStorage, would keep them on the machine.
const storage = sessionStorage;
const token = takeSetupToken();
if (token !== null || storage.getItem("graphiql:tabState") === null) {
  // Stored rather than passed as `initial…` properties, which a reload would not find again. In a tab that
  // is in use already, GraphiQL sees that they are new and opens them beside what is there.
  storage.setItem("graphiql:query", welcome);
  storage.setItem("graphiql:variables", variablesFor(token));
  storage.setItem("graphiql:headers", headers);
}
// The link of a second set-up, followed in the same tab, changes the fragment only: nothing would load.
addEventListener("hashchange", () => location.reload());

createRoot(document.getElementById("root")!).render(
  <GraphiQL
    fetcher={fetcher}
    storage={storage}
    shouldPersistHeaders
    defaultQuery=""
    defaultHeaders={headers}
    defaultEditorToolsVisibility="variables"
    inputValueDeprecation
    schemaDescription
  >
    <GraphiQL.Logo>Guildhall</GraphiQL.Logo>
  </GraphiQL>,
);
