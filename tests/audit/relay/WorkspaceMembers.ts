// What a Relay application has: a screen with a list that it pages both ways, refetches and keeps up to date.
// Only compiled, against the schema: see relay.config.json.
declare const graphql: (document: TemplateStringsArray) => unknown;

export const screen = graphql`
  query WorkspaceMembersQuery($name: String!) {
    workspace(name: $name) {
      id
      displayName
      ...WorkspaceMembers_workspace
      ...WorkspaceMembers_invitations
    }
  }
`;

export const members = graphql`
  fragment WorkspaceMembers_workspace on Workspace
  @argumentDefinitions(count: { type: "Int", defaultValue: 25 }, cursor: { type: "String" }, search: { type: "String" })
  @refetchable(queryName: "WorkspaceMembersPageQuery") {
    members(first: $count, after: $cursor, search: $search) @connection(key: "WorkspaceMembers_members") {
      totalCount
      edges {
        node {
          id
          role {
            name
          }
          principal {
            ... on User {
              displayName
            }
          }
        }
      }
    }
  }
`;

export const invitations = graphql`
  fragment WorkspaceMembers_invitations on Workspace
  @argumentDefinitions(
    first: { type: "Int" }
    after: { type: "String" }
    last: { type: "Int", defaultValue: 25 }
    before: { type: "String" }
  )
  @refetchable(queryName: "WorkspaceMembersInvitationsPageQuery") {
    invitations(first: $first, after: $after, last: $last, before: $before)
      @connection(key: "WorkspaceMembers_invitations") {
      edges {
        node {
          ...WorkspaceMembers_invitation
        }
      }
    }
  }
`;

export const invitation = graphql`
  fragment WorkspaceMembers_invitation on Invitation @refetchable(queryName: "WorkspaceMembersInvitationQuery") {
    id
    email
    status
    expiresAt
  }
`;

export const invite = graphql`
  mutation WorkspaceMembersInviteMutation($input: InviteMemberInput!, $connections: [ID!]!) {
    inviteMember(input: $input) {
      invitation @prependNode(connections: $connections, edgeTypeName: "InvitationEdge") {
        ...WorkspaceMembers_invitation
      }
      userErrors {
        code
        field
        message
      }
    }
  }
`;

export const removeMember = graphql`
  mutation WorkspaceMembersRemoveMutation($input: RemoveMemberInput!) {
    removeMember(input: $input) {
      userErrors {
        code
        field
        message
      }
    }
  }
`;

export const changes = graphql`
  subscription WorkspaceMembersSubscription($workspaceId: ID!, $after: String) {
    invitationStatusChanged(workspaceId: $workspaceId, after: $after) {
      cursor
      resyncRequired
      invitation {
        ...WorkspaceMembers_invitation
      }
    }
  }
`;
