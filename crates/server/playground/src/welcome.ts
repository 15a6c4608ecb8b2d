// What the panes hold when the page is opened for the first time.
import query from "./welcome.graphql?raw";

export const welcome = query;

export const headers = `{
  // "authorization": "Bearer <accessToken from SignIn>"
}
`;

/** Variables for the operations of welcome.graphql; `token` is that of the set-up link, when known. */
export function variablesFor(token: string | null): string {
  return `${JSON.stringify(
    {
      setUp: {
        token: token ?? "",
        email: "",
        password: "",
        displayName: "",
        organizationName: "",
      },
      signIn: { email: "", password: "" },
      createWorkspace: { displayName: "Field team" },
      inviteMember: { workspaceId: "", email: "", role: "VIEWER" },
      workspaceId: "",
    },
    null,
    2,
  )}\n`;
}
