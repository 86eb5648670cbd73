/** What a user can cause: one line that says what was found and what to do. */
export class UserError extends Error {
  name = 'UserError';
}
